{#-
    The form that an element stands in: the `form` of its selector, with id and classes. Selectors that write classes
    apart, with blanks, give `form` alone.
-#}
{% macro form_of(selector) %}
    {{ return(regexp_group(selector, '(?:^|[ >])(form(?:[.#:\\[][^ >]*)?)(?:[ >]|$)')) }}
{% endmacro %}
