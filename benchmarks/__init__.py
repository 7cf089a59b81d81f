"""Every figure that the README quotes comes from a script in here."""
