"""Published decoding methods: slots for jaxdecode's engines and one short assembly per paper."""
