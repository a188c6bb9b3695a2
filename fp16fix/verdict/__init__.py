"""Reference outputs + candidate outputs → Verdict."""
