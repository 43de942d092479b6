"""A picture to put into documents: one pixel of ink."""

import base64

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGOwTzsCAAJRAWqtWbiRAAAAAElFTkSuQmCC"
)
