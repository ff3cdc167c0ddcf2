import sys

try:
    from cli.main import main

    sys.exit(main())
except KeyboardInterrupt:  # main() handles its own; this one came while it was being imported
    sys.exit(130)
