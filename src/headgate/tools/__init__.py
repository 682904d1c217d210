"""What an agent may touch. Everything here is read-only or sandboxed; effects come later, with approvals."""
