"""Where n-grams occurred and what followed them: tables, tries and suffix arrays on the device."""
