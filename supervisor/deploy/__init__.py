"""`pit deploy`: an exchange laid out as operators of ViaBTC Exchange Server know it, a folder for each process."""
