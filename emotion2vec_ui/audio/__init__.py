"""Recordings read as 16 kHz samples, measured, judged, and damaged for the robustness test."""
