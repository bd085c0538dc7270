"""Tests of ONNX files in and out."""
