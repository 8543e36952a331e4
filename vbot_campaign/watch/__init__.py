"""Looking at studies: in the terminal, in optuna-dashboard and in TensorBoard.

The modules are imported one by one, because the web servers take their time to load.
"""
