"""INFP (arXiv 2412.04037): one portrait animated from the two voices of a conversation. Networks, sampler and agent."""
