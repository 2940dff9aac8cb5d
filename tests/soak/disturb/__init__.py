"""What goes wrong during a soak, and how soon it is right again."""
