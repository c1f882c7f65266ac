"""Commands on masks and scenes. None of them imports TensorFlow."""
