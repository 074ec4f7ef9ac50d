"""The minds: planner, executor, evaluator, crown, and the models behind them."""
