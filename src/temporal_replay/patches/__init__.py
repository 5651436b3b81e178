"""Which patches the code asks for, and which of them recordings need."""
