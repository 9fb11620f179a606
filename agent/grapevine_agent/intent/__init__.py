"""Applications as engineers write them: YAML in the Open Application Model's form, read strictly, and shown again."""
