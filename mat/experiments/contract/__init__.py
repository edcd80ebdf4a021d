"""What every task, model and method keeps, said in plain words where one does not; ours and others' alike."""
