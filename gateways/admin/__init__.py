"""The admin port: lines of text in, tables of text out, as the original's command line has them (CONTRACT 9.3)."""
