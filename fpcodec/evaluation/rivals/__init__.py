"""What people send today: pictures, boxes, and features through video coders."""
