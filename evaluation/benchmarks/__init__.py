"""What no paper asks for: the board, speed, the zoo's cards, reports, calibration, and the demo."""
