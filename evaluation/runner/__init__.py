"""What every protocol needs: its context, parts and who works on them, results as rows with fields, and the pages."""
