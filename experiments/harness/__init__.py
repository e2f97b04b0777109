"""What every experiment stands on: its report, its resumption, its progress, its figures."""
