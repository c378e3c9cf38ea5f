"""Pure decisions: kinds, rules, plan, manifests, fold, retry. No clock, no environment, no I/O."""
