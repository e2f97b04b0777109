"""What tests are made of: exact models, naive references, statistics, conformance checks."""
