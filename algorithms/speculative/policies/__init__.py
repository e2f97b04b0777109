"""How deep to draft: from round to round (policies), and within a draft (halt rules)."""
