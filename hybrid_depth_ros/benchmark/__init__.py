"""``make bench``: what each part costs here."""
