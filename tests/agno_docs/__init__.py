"""Programs that use the API as Agno's documentation does, against providers that answer from what they are asked.

| page | what it shows or says | tests |
| --- | --- | --- |
| What is Agno? | an agent that reasons and looks up stocks | `test_levels.py` |
| Multi Agent Systems | teams, their modes, what leaders and members are told | `test_levels.py` |
| | a workflow with a cache: run twice, awaited, stored, two instances | `test_levels.py` |
| Agent State | tools and other functions change it; it is in prompts, and lasts over runs | `test_state.py` |
| | given to a run, stored, switched with the session, filled in | `test_state.py` |
| Memory | asked for or automatic; nobody else's; deleted and cleared; other sessions | `test_memory.py` |
| | history, its bounds, the tools that read it; what ends without a storage | `test_memory.py` |
| | session summaries, from the last one and what is new; a context of one's own | `test_memory.py` |
| Structured Output | schema, JSON mode, parser model, with tools; streamed, printed | `test_structured_output.py` |
| User Control Flows | confirmation: yes, no and why, later; by response, by id; streamed | `test_user_control.py` |
| | input: all fields, some, those that the agent asks for | `test_user_control.py` |
| | execution outside; toolkits | `test_user_control.py` |

`provider.py` is the three providers; `conftest.py` points the SDKs to them. What has `model` runs with each of them.
"""
