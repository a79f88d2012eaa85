"""`python -m verify_pipeline` is the console command."""

from verify_pipeline.cli import main

if __name__ == "__main__":
    main()
