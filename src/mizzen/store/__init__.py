"""What Mizzen remembers: one SQLite database, and files named after their content.

Belongs here: every SQL statement, migrations, the content cache. Does not: deciding anything.
"""
