"""Writes chat_templates.json: templates, conversations and what Jinja 3.1 makes of them with transformers' settings."""
import json, os
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

def raise_exception(message):
    raise TemplateError(message)

env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
    x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
env.globals["raise_exception"] = raise_exception

chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hi 'you' "},
        {"role": "assistant", "content": "Hello.</think>Yes\n"}, {"role": "user", "content": "2+2? 🙂 \"é\""}]
templates = [
    # expressions
    "{{ 1 + 2 * 3 - 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 1.5 + 1 }} {{ 4 / 2 }}",
    "{{ 'a' ~ 1 ~ none ~ true ~ 2.0 }} {{ 'a' + 'b' * 3 }} {{ [1, 'x'] + [none] }} {{ {'a': 1, 'b': [true, \"it's\"]} }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 'a' in 'cat' }} {{ 'z' not in 'cat' }} {{ not 1 == 2 }} {{ 'k' in {'k': 1} }} {{ 2 in [1, 2] }}",
    "{{ 'a' and '' or 'c' }}|{{ none or 'd' }}|{{ '' and x.y }}|{{ 'yes' if 1 else 'no' }}|{{ 'x' if false }}|{{ 1 if 0 else 2 if 0 else 3 }}",
    "{{ 'abcdef'[1:3] }} {{ 'abcdef'[-2:] }} {{ 'abcdef'[::-1] }} {{ [1,2,3,4][::2] }} {{ 'abc'[0] }} {{ [1,2,3][-1] }} {{ messages[1:]|length }} {{ messages[:-1]|length }} {{ [1,2,3][5:2] }} {{ [1,2,3][3:0:-1] }}",
    "{{ 'a\\n\\t\\'b\\\\' }}{{ \"q\\\"\" }}{{ 'one' 'two' }}{{ '\\d' }}",
    "{{ x is defined }} {{ messages is defined }} {{ none is none }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is iterable }} {{ 3 is odd }} {{ 4 is divisibleby 2 }} {{ 4 is divisibleby(3) }} {{ x is not defined }} {{ true is boolean }} {{ 1 is number }} {{ 1 is integer }} {{ 1.0 is float }} {{ 'a' is sequence }} {{ true is true }} {{ 1 is eq 1 }} {{ not x is defined and true }}",
    "[{{ ' a ' | trim }}] {{ x | default('d') }} {{ '' | default('e', true) }} {{ 'aB' | upper }} {{ 'aB' | lower }} {{ 'aB c' | capitalize }} {{ 'a b' | title }} {{ [1,2]|join('-') }} {{ 'a-b'|replace('-', '+') }} {{ [3,1,2]|sort }} {{ [1,2]|first }} {{ [1,2]|last }} {{ 'abc'|length }} {{ '12'|int + 1 }} {{ -3|abs }} {{ 'abc'|list }} {{ 'abc'|reverse }}",
    "{{ ' a '.strip() }}|{{ 'xax'.strip('x') }}|{{ ' a'.lstrip() }}|{{ 'a\\n'.rstrip('\\n') }}|{{ 'a,b,c'.split(',') }}|{{ 'a,b,c'.split(',', 1) }}|{{ ' a  b '.split() }}|{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'bc')) }}|{{ 'abc'.replace('b', 'x') }}|{{ 'a</t>b'.split('</t>')[-1] }}|{{ 'ab'.upper() }}|{{ '-'.join(['a','b']) }}|{{ 'abc'.find('c') }}",
    "{{ {'b': 1, 'a': [1, 2.5, none, true, {'c': 'é\\n\"<>'}]} | tojson }}{{ {'a': {'b': [1, []]}} | tojson(indent=2) }}{{ {} | tojson(indent=4) }}",
    "{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'eq', 'user') | map(attribute='content') | list }} {{ ['a','b'] | map('upper') | list }} {{ [1,2,3,4] | select('odd') | list }} {{ [0,1,'']|select|list }}",
    "{{ {'a': 1}.items() | list }} {{ {'a': 1}.get('b', 5) }} {{ {'a': 1}.keys() | list }} {% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}={{ v }};{% endfor %} {{ {'items': 3}['items'] }} {% for k in {'q': 1} %}{{ k }}{% endfor %} {% for k, v in {'b': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% endfor %}",
    "{{ ('a', 1) }} {{ (1,) }} {{ () }} {{ (1 + 2) * 3 }} {{ ' 1 '|int }} {{ 'x'|int(7) }} {{ 2.7|int }} {{ 'é🙂'|length }} {{ '🙂b'[0] }} {{ ['a'] * 1 if false else 'n' }} {{ messages[0]['role'] ~ messages[0].role }}",
    "{{ (messages | first).role }} {{ 'b' in ('a', 'b') }} {{ messages[-1].content[:3] }} {{ messages|length - 1 }} {{ (messages|length) is even }} {{ 'a' if x is defined and x.y else 'b' }} {{ {'a': [1, {'b': 2}]}.a[1].b }} {{ 'A' == 'A' and 1 != 2 and none != false }} {{ 1 == 1.0 }} {{ true == 1 }}",
    # statements
    "{% for m in messages %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.length }}{{ ' first' if loop.first }}{{ ' last' if loop.last }} {{ loop.revindex }} {{ loop.previtem.role if loop.previtem is defined else '-' }} {{ loop.nextitem.role if not loop.last }}\n{% endfor %}",
    "{% for i in range(3) %}{{ i }}{% else %}none{% endfor %}{% for i in [] %}{{ i }}{% else %}none{% endfor %}{% for i in range(1, 10, 3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}",
    "{% for i in range(10) if i is even %}{% if i == 4 %}{% continue %}{% endif %}{% if i == 8 %}{% break %}{% endif %}{{ i }}({{ loop.index }}){% endfor %}",
    "{% set x = 1 %}{% for i in range(3) %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set ns = namespace(n=0, items=[]) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ ns.items }}{{ ns.q is defined }}",
    "{% set t %}  x{{ 1 + 1 }}\n{% endset %}[{{ t }}]",
    "{% macro tag(name, value='v') %}<{{ name }}>{{ value }}{% endmacro %}{{ tag('a') }}{{ tag('b', value='w') }}{{ tag('c', 1) | upper }}",
    "{% if messages[0].role == 'system' %}S:{{ messages[0].content }}{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}[{{ m.role }}] {{ m['content'] | trim }}{% endfor %}",
    "{% if 0 %}a{% elif '' %}b{% elif [0] %}c{% else %}d{% endif %}{% if x %}e{% else %}f{% endif %}{{ x }}{{ messages[9] }}{{ messages[0].nothing }}",
    # white space
    "a\n  {% if true %}\n  b\n  {% endif %}\n c {%- if true -%}  d  {%- endif %} e\n{# note #}\n  {# note #} f\n{{ 'g' }}\n\nh\n",
    "  {%- for m in messages %}\n    {{- m.role }}\n  {%- endfor %}\n\n",
    "{%+ if true %}\n x {%+ endif +%}\ny\n   {%+ if true +%}\nz{% endif %}",
    "x {#- c -#} y\n{{- 'z' -}}\n w {{ '}}' }} {{ {'a': {'b': 1}} }} {{ '%}' }}",
    "{% if add_generation_prompt %}GO{% endif %}{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}",
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{% for m in messages %}{% if m.role == 'assistant' and '</think>' in m.content %}{% set content = m.content.split('</think>')[-1].lstrip('\\n') %}{% else %}{% set content = m.content %}{% endif %}{{ content }};{% endfor %}",
]
errors = ["{{ x.y }}", "{{ 'a' + none }}", "{{ 'a' + 1 }}", "{{ raise_exception('no ' ~ 'way') }}", "{{ x() }}", "{% if %}", "{% for %}", "{{ 1", "{% if x %}",
          "{{ 'a }}", "{{ 1 | nope }}", "{{ 1 is nope }}", "{% nope %}", "{{ 1 2 }}", "{{ }}", "{# x", "{{ 1 // 0 }}", "{% endif %}", "{{ 'a' < 1 }}", "{% for i in 5 %}{% endfor %}"]

def render(template):
    return env.from_string(template).render(messages=chat, bos_token="<s>", eos_token="</s>", add_generation_prompt=True)

cases = [{"template": t, "expected": render(t)} for t in templates]
for t in errors:
    try:
        render(t)
        raise SystemExit("no error: " + t)
    except (TemplateError, TypeError, ZeroDivisionError):
        pass
out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chat_templates.json")
json.dump({"messages": chat, "cases": cases, "errors": errors}, open(out, "w"), ensure_ascii=False, indent=1)
