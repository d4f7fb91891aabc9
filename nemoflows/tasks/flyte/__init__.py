"""What a Flyte task is made of: decorator, binding, images, pods, secrets, session."""
