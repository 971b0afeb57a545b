"""The models that ship with Triform: what they are trained on, and how."""
