"""What every wing uses: errors, files, tables, logs, YAML, processes. Imports no other wing."""
