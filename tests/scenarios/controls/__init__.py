"""Controls: workflows that are broken on purpose, to prove that the scenarios, the model and the checker notice."""
