"""Programs that use the API as Agno's documentation does, against providers that answer from what they are asked.

| page | tests |
| --- | --- |
| What is Agno? and Multi Agent Systems: levels 1, 4 and 5 | `test_levels.py` |
| Agent State: its five programs | `test_state.py` |
| Memory: demo, default memory, storage, user memories, summaries | `test_memory.py` |
| Structured Output: both modes, parser model, streaming | `test_structured_output.py` |
| User Control Flows: confirmation, input, dynamic input, external execution | `test_user_control.py` |
"""
