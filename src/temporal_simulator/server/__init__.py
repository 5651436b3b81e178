"""What a Temporal server does with one workflow: tasks, timers, activities, children, updates."""
