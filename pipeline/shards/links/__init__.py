"""Images that rows name instead of holding them: what may be opened, and how."""
