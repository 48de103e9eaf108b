"""`python -m tfdefense`: the program, where its script is not on the path."""

from tfdefense.cli import main

if __name__ == "__main__":
    main()
