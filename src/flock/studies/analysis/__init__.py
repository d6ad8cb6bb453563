"""What came out: statistics, tables, comparisons, pictures and reports."""
