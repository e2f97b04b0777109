"""Language models in Flax NNX, behind jaxdecode's `LanguageModel` protocol."""
