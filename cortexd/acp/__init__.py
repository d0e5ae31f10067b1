"""The agent that editors start: Agent Client Protocol on stdio, answers from any endpoint of three dialects.

Start at ``agent.py`` (what the editor calls), ``turn.py`` (one prompt: model and tools in turns), ``upstream.py`` (one
request), ``tools.py`` (what the model may do), ``workspace.py`` (where), ``config.py`` (which endpoints).
"""
