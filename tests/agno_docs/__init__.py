"""Programs that use the API as Agno's documentation does, against providers that answer from what they are asked.

| page | what it shows or says | tests |
| --- | --- | --- |
| What is Agno?, Multi Agent Systems | an agent that reasons and looks up stocks; teams, their modes, what leaders are told | `test_levels.py` |
| | a workflow with a cache: run twice, awaited, stored, two instances | `test_levels.py` |
| Agent State | tools and other functions change it; it is in prompts, lasts over runs, switches with the session | `test_state.py` |
| | given to a run, stored, filled into description and instructions | `test_state.py` |
| Memory | agentic and automatic, each provider; nobody else's; cleared and deleted; across sessions and programs | `test_memory.py` |
| | history, its bounds, the tools that read it; storage and what ends without it; context of one's own | `test_memory.py` |
| | session summaries, from the last one and what is new | `test_memory.py` |
| Structured Output | schema and JSON mode, with tools, by a parser model; streamed, printed; each provider | `test_structured_output.py` |
| User Control Flows | confirmation: yes, no, later, with a reason; by response, by id; streamed, awaited; toolkits | `test_user_control.py` |
| | input: all fields, some, those that the agent asks for; execution outside | `test_user_control.py` |

`provider.py` is the three providers; `conftest.py` points the SDKs to them.
"""
