"""What a paper needs of a finished run, as one zip: tables, figures, a paragraph of methods, BibTeX, a schema."""
