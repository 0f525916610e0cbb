"""AI calls: holds, captures and spends, their prices and their actions."""
