"""Gradio's pages: components and their events; nothing is computed here."""
