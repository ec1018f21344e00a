from dyconv.cli import main

main()
