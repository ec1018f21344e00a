"""The evaluator: what a system generates, or a dataset holds, in numbers of the field.

`case` says what is compared, `systems` make videos, `evidence` is what is read off them frame by frame, a `metric` turns
evidence into sums that add up, `report` tells. Nothing of a video is kept in memory but the sums.
"""
