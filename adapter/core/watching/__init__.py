"""Who watches jobs in this process, and how they learn of changes without asking one by one."""
