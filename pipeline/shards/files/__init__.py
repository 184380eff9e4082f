"""Which files the input is: URIs, listings, footers, and what folders and names say."""
