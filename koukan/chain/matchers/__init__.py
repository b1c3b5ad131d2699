"""Match expressions of policy_action and the matchers they are made of."""
