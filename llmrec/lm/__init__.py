"""Language models: backbone, head, soft tokens, text encoders, the models that come with packages."""
