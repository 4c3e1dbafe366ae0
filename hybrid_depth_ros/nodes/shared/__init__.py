"""What all nodes share: messages, parameters, subscriptions, transforms, start and end."""
