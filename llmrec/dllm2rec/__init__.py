"""DLLM2Rec: the teacher stage and the student."""
