"""Running a recorded history through the code, in this process or in others."""
